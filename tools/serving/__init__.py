"""What tools/load_service.py, attack_service.py and fault_service.py are made of.

process   a service in a process of its own
digits    the images that are asked, the bundle in this process, and what a result says of itself
load      many clients at once: order, losses, memory, and more than the queue holds
overhead  the service beside the defence in this process
attack    one black box against both
faults    kills at random moments, and what is there afterwards
"""
