// Texts in, unit vectors out: `POST {"texts": ["…"], "mean"?: bool}` is answered with `{"vectors": [[…]], "tokens"}`.
//
// Owns the order of things: read, encode, ask, answer. What a right question is stands in `question.js`. componentize-js
// makes the exported objects into the exports of the world `transform`; names of `wit/` are camelCase here, u64 is BigInt.

import { get as setting } from 'tenon:plugin/config@1.0.0';
import { log } from 'tenon:plugin/logging@1.0.0';
import { Response as Answer } from 'tenon:plugin/response@1.0.0'; // `Response` is the web's
import { Inference } from 'tenon:plugin/steps@1.0.0';
import { Options, encode } from 'tenon:plugin/text@1.0.0';
import { Refused, read } from './question.js';

// The plugin's name for the model: the key under `[models]` in function.toml.
const ENCODER = 'encoder';
const DEFAULT_MOST_TEXTS = 64;
const DECIMALS = 1e6;
// Failures of `encode` that a request can cause; every other one is a fault of the plugin.
const CALLERS_FAULT = { 'too-long': 422, 'too-large': 413, memory: 413 };

// Left by `preprocess` for `postprocess`. Set anew by each request, because with `reuse` in function.toml they are what the
// last one left.
let asked, tokens;

export const preprocessing = {
    preprocess: stage((request) => {
        if (request.method() !== 'POST') {
            const refused = new Refused(405, 'method-not-allowed', 'this function answers POST only');
            refused.headers.push(['allow', 'POST']);
            throw refused;
        }
        asked = read(request.body(), mostTexts());
        const rows = encodeTexts(asked.texts);
        const ids = rows.ids();
        tokens = ids.lengths().reduce((sum, length) => sum + Number(length), 0);
        const inference = new Inference(ENCODER);
        inference.input('input_ids', ids);
        inference.input('attention_mask', rows.attentionMask());
        inference.input('token_type_ids', rows.typeIds());
        return { tag: 'infer', val: [inference] };
    }),
};

export const postprocessing = {
    postprocess: stage((request, outputs) => {
        const tensor = outputs[0].tensor('embedding');
        const [rows, width] = [...tensor.shape()].map(Number);
        // Copied, because a view of floats must begin at a multiple of four.
        const numbers = new Float32Array(tensor.read(0n, tensor.size()).slice().buffer);
        let vectors = Array.from({ length: rows }, (_, row) => numbers.subarray(row * width, (row + 1) * width));
        if (asked.mean) vectors = [total(vectors, width)];
        const answer = new Answer(200, 'application/json');
        answer.write(new TextEncoder().encode(JSON.stringify({ vectors: vectors.map(unit), tokens })));
        return { tag: 'respond', val: answer };
    }),
};

/**
 * A stage whose faults are told in the function's log. The bindings take whatever a stage throws for a rejection, and trap
 * where it is none, but say of it at most that `code` is missing.
 */
function stage(answer) {
    return (...given) => {
        try {
            return answer(...given);
        } catch (error) {
            if (!(error instanceof Refused)) {
                const failure = error?.payload;
                log('error', failure ? `a host call failed with \`${failure.code}\`: ${failure.detail}` : `${error}`);
                log('error', `${error?.stack}`);
            }
            throw error;
        }
    };
}

/** The setting, which is text; a function.toml that says no number is a fault of ours. */
function mostTexts() {
    const most = Number(setting('max_texts') ?? DEFAULT_MOST_TEXTS);
    if (!Number.isInteger(most)) throw new Error('max_texts is no whole number');
    return most;
}

/** A row of tokens for each text; they stay in the host. */
function encodeTexts(texts) {
    try {
        return encode(ENCODER, texts.map((val) => ({ tag: 'single', val })), new Options());
    } catch (error) {
        const failure = error.payload;
        const status = CALLERS_FAULT[failure?.code];
        if (status === undefined) throw error;
        throw new Refused(status, failure.code, failure.detail, '/texts');
    }
}

/** The sum of vectors: as a direction, it is the mean. */
function total(vectors, width) {
    const sum = new Float64Array(width);
    for (const vector of vectors) vector.forEach((number, column) => { sum[column] += number; });
    return sum;
}

/** The vector brought to length 1, in as many digits as FP32 has. */
function unit(vector) {
    const length = Math.hypot(...vector) || 1;
    return Array.from(vector, (number) => Math.round((number / length) * DECIMALS) / DECIMALS);
}
