"""What tools/load_service.py, attack_service.py, fault_service.py and vulnerable_window.py are of.

process   a service in a process of its own
digits    the images that are asked, the bundle in this process, and what a result says of itself
load      many clients at once: order, losses, memory, and more than the queue holds
overhead  the service beside the defence in this process
attack    one black box against both
faults    kills at random moments, and what is there afterwards
page      the tables of these three
window    an attack that is learnt while it arrives; window_page has its table and figure
"""
