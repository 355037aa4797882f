"""What tools/benchmark*.py, search_profile.py and queries_at_once.py measure, and the pages of it.

What is compared runs in turn in one process: a busy machine slows both sides, and each
ratio is of two neighbours in time.

Measures:
  faithful           a prediction beside its arithmetic, and beside the authors' arrangement
  prepare            how fast PREPARE is beside its arithmetic
  growth             how the cost grows with K, N', the network, and the predictions so far
  refresh            how long RMC⁺ updates D' after a prediction
  hardware           what XLA, bfloat16 and several devices cost or save
  searching          a search index: build, memory, recall, and time beside a full sort
  pixels             whether the memory of a prediction grows with the pixels of D'
  profiles           accuracy, steps and delay of several settings of RMC
  ensembles          what our AutoAttack, ART's, margin PGD and an audit leave right
  gpu_parts          what the bars on a GPU are for
  gpu_tasks          what each of these runs, in a process of its own
  stored_search      what of a search is stored, and what is left
  alone              any of these that need a process of their own
  measuring          time: what a comparison and a series are, and on what machine
  memory             memory that a process has of its own

Makes what is measured:
  deployments        networks with a D', ready to predict
  many_rows          a D' of any number of rows
  enlarged_features  feature vectors, as many and as wide as wanted
  authors_scheme     predictions arranged as in the authors' code
  attack_peers       pairs of attacks: ours, and another library's
  candidates         the defences that tools/withstanding.py audits
  bare               compiled steps and passes with nothing around them

Writes:
  history_page       tables and figure of tools/history_attack.py
  figures            the file of the figures
  plots              the plots of the series
  search_page        the tables and the plot of the search for the fast profile
  groups_page        the tables and the plot of queries that share one adaptation
  scale_page         the tables of the search at scale
  step_page          the tables of a step at real size
  gpu_page           the table of the bars on a GPU
  autoattack_page    the table of AutoAttack, ours and ART's
  sizes_page         what of ImageNet fits where
  withstanding_page  the table and the figure of tools/withstanding.py
  certified_page     the table and the figure of tools/certified_accuracy.py
  known_page         the table of defences with planted faults, of tools/known_answers.py
"""
