#!/usr/bin/env bash
# Does the student still call the tools as well as the baseline says? The same command before a merge and in CI.
#
#   ci/gate.sh                                                        # the model that the config names
#   ci/gate.sh --set model.model=runs/home/candidate                  # another one
#   ci/gate.sh --set model=null --set predictions=answers.jsonl       # answers that were saved elsewhere
#
# Exit codes: 0 passed, 1 the gate failed, 2 wrong usage or another suite, 3 some case has no answer (run it again).
set -euo pipefail
exec fcdistill eval "${FCDISTILL_CONFIG:-home.yaml}" \
  --baseline "${FCDISTILL_BASELINE:-evals/home/baseline.json}" \
  --min-accuracy "${FCDISTILL_MIN_ACCURACY:-0.8}" \
  --max-drop 0.02 \
  "$@"
