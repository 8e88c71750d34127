// Plain Node, no host: `node --test plugins/javascript/`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refused, read } from './question.js';

const bytes = (text) => new TextEncoder().encode(text);

test('a question passes', () => {
    const asked = read(bytes('{"texts": ["a", "\\ud83d\\ude00"], "mean": null, "model": "theirs"}'), 2);
    assert.deepEqual(asked, { texts: ['a', '\u{1f600}'], mean: false });
});

test('the place is told', () => {
    const cases = [
        ['{"texts": ["a", true]}', 'invalid-text', '/texts/1', 'expected a string, found a boolean'],
        ['{"texts": ["\\udc00"]}', 'invalid-text', '/texts/0', 'half a surrogate pair is no text'],
        ['{"texts": ["a", "b", "c"]}', 'too-many-texts', '/texts', '3 texts, 2 at most'],
    ];
    for (const [body, code, pointer, detail] of cases) {
        assert.throws(() => read(bytes(body), 2), (refused) => {
            assert.ok(refused instanceof Refused);
            assert.deepEqual([refused.code, refused.pointer, refused.detail], [code, pointer, detail]);
            return true;
        });
    }
});
