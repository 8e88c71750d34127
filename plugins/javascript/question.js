// What a caller asks, and each way in which it can be wrong. Owns the codes: 400 where the body cannot be read, 422 where
// it can and is no question, each with a pointer to the place. Knows nothing of hosts and models, so that plain Node
// tests it.

const BAD_REQUEST = 400, UNPROCESSABLE = 422;

/** The caller is wrong: what they are told. It has the members of the contract's `rejection`, and a stage may throw it. */
export class Refused {
    headers = [];
    body = undefined;

    constructor(status, code, detail, pointer) {
        Object.assign(this, { status, code, detail, pointer });
    }
}

/** The question in a request's body: `{ texts, mean }`; `mean` is for one vector instead of one for each text. */
export function read(body, mostTexts) {
    const value = parse(body);
    if (kind(value) !== 'an object') {
        throw new Refused(UNPROCESSABLE, 'not-an-object', `expected an object with \`texts\`, found ${kind(value)}`, '');
    }
    // `null` is what clients send for what they leave out.
    const texts = value.texts ?? null, mean = value.mean ?? false;
    if (texts === null) throw new Refused(UNPROCESSABLE, 'missing-texts', '`texts` is missing', '/texts');
    if (!Array.isArray(texts)) {
        throw new Refused(UNPROCESSABLE, 'invalid-texts', `expected an array, found ${kind(texts)}`, '/texts');
    }
    if (texts.length === 0) throw new Refused(UNPROCESSABLE, 'empty-texts', 'there are no texts', '/texts');
    if (texts.length > mostTexts) {
        throw new Refused(UNPROCESSABLE, 'too-many-texts', `${texts.length} texts, ${mostTexts} at most`, '/texts');
    }
    texts.forEach((text, index) => checkText(text, `/texts/${index}`));
    if (typeof mean !== 'boolean') {
        throw new Refused(UNPROCESSABLE, 'invalid-mean', `expected true or false, found ${kind(mean)}`, '/mean');
    }
    return { texts, mean };
}

/** The body as JSON, as strict as the Rust SDK. */
function parse(body) {
    let text;
    try {
        text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
    } catch {
        throw new Refused(BAD_REQUEST, 'invalid-utf8', 'the body is not UTF-8');
    }
    if (/^[ \t\r\n]*$/.test(text)) throw new Refused(BAD_REQUEST, 'empty-body', 'the body is empty; send a JSON object');
    try {
        return JSON.parse(text);
    } catch (error) {
        throw new Refused(BAD_REQUEST, 'invalid-json', `the body is not JSON: ${error.message}`);
    }
}

/** Refuses what has no tokens, and half a surrogate pair, which cannot cross to the host. */
function checkText(text, pointer) {
    if (typeof text !== 'string') {
        throw new Refused(UNPROCESSABLE, 'invalid-text', `expected a string, found ${kind(text)}`, pointer);
    }
    if (text.trim() === '') throw new Refused(UNPROCESSABLE, 'empty-text', 'there is no word in it', pointer);
    if (!text.isWellFormed()) {
        throw new Refused(UNPROCESSABLE, 'invalid-text', 'half a surrogate pair is no text', pointer);
    }
}

/** What kind of value it is, with its article. */
function kind(value) {
    if (value === null) return 'null';
    if (Array.isArray(value)) return 'an array';
    return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
