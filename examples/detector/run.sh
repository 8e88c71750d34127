#!/usr/bin/env bash
# Shows objects found in a picture: as JSON with boxes in the picture's pixels, and as the picture with the boxes drawn
# (.tenon/examples-data/annotated.jpg). docs/detector.md has the parameters. Builds what is missing, starts a host, and
# stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly HERE=examples/detector DATA=.tenon/examples-data
source examples/host.sh

start_services
call objects.json '/detect?confidence=0.4' -H 'content-type: image/jpeg' --data-binary "@$HERE/scene.jpg"
expect objects.json $HERE/answer.json
call annotated.jpg /detect/annotated -H 'content-type: image/jpeg' --data-binary "@$HERE/scene.jpg"
call two.json /detect -F "image=@$HERE/scene.jpg" -F "image=@$HERE/scene.jpg"
