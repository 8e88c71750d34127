#!/usr/bin/env bash
# Shows cells outlined in a microscope's picture by one of three models: as polygons with areas, and as a mask
# (.tenon/examples-data/mask.png). docs/segmentation.md has the parameters. Builds what is missing, starts a host, and
# stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly HERE=examples/segmentation DATA=.tenon/examples-data
source examples/host.sh

start_services
for model in unet resunet hrnet; do
    call $model.json "/segment?model=$model&polygons=false" -H 'content-type: image/png' --data-binary "@$HERE/cells.png"
    expect $model.json $HERE/$model.answer.json
done
call outlines.json '/segment?model=unet' -H 'content-type: image/png' --data-binary "@$HERE/cells.png"
call mask.png '/segment?model=unet' -H 'content-type: image/png' -H 'accept: image/png' --data-binary "@$HERE/cells.png"
