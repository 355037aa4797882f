"""`--mode=audit`: the protocol for adaptive defences, run on a config, on one page.

  plan       what is attacked, and with what
  run        every threat while the defence answers, and replayed on a fresh one;
             then each final image again, under other seeds
  gradients  what an attacker by gradients sees
  checks     signs of masked gradients
  page       audit.md from audit.json

After Croce et al., ICML 2022. All that is dear is an artefact under a fingerprint,
as in any run: an audit that was killed goes on, and a second one reads.
"""
