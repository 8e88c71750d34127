"""FastAPI on uvicorn with one worker: `serve_fastapi.py --port N`; the variable SERVE names the model of models.py.

The model runs where the request was read: on one core a thread of its own only adds a hop.
"""

import argparse
import os

import fastapi
import uvicorn
from models import MODELS

app = fastapi.FastAPI()
model = MODELS[os.environ["SERVE"]]()


@app.post("/inference")
async def answer(request: fastapi.Request):
    answers = model.answer([await request.body()])
    return fastapi.Response(answers[0], media_type=model.media_type)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, loop="uvloop", http="httptools",
                log_level="warning", access_log=False)
