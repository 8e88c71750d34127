#!/usr/bin/env bash
# Shows two models behind one call: what a detector finds in a picture is cropped from it and classified by a second model,
# two steps of one invocation (plugins/pipeline). Then two models at once about one tensor (plugins/both). Builds what is
# missing, starts a host, and stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly DATA=.tenon/examples-data
source examples/host.sh

start_services
call pipeline.json /v1/functions/demo/pipeline -H 'content-type: image/jpeg' --data-binary @examples/detector/scene.jpg
call both.json /v1/functions/demo/both -H 'content-type: image/png' --data-binary @examples/segmentation/cells.png
