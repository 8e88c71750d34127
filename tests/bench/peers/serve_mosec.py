"""mosec with one worker: `serve_mosec.py --port N`; the variable SERVE names the model of models.py."""

import os

import mosec
from models import MODELS

WAIT_MS = 2
MODEL = MODELS[os.environ["SERVE"]]


class Served(mosec.Worker):
    """Bodies pass as they are: what is encoded and decoded is the model's doing, as everywhere else."""

    resp_mime_type = MODEL.media_type

    def __init__(self):
        super().__init__()
        self.model = MODEL()

    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data

    def forward(self, data):
        return self.model.answer(data)


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(Served, num=1, max_batch_size=MODEL.batch, max_wait_time=WAIT_MS)
    server.run()
