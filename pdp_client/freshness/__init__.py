"""How current an answer is: the registry's latest revision, and cached decisions."""
