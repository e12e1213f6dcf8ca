"""``aktis check``: what a script for Ray uses, and what of it is the same here, different on purpose, or missing.

```text
scripts   files, folders, notebooks ──► source text
reader    source text ──► names of Ray that it uses, with the arguments they are called with
verdicts  a name, a call ──► same | different | missing, and what to do
```

Nothing of the script runs. What cannot be known without running it (the type of what a function of the script returns, say) is
not reported.
"""
