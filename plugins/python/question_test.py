"""Plain Python, no host: `python3 -m unittest plugins/python/question_test.py`."""

import unittest

import question


class Questions(unittest.TestCase):
    def test_a_question_passes(self):
        asked = question.read(b'{"texts": ["a", "\\ud83d\\ude00"], "mean": null, "model": "theirs"}', 2)
        self.assertEqual(asked, question.Question(["a", "\U0001f600"], False))

    def test_the_place_is_told(self):
        cases = {
            b'{"texts": ["a", true]}': ("invalid-text", "/texts/1", "expected a string, found a boolean"),
            b'{"texts": ["\\udc00"]}': ("invalid-text", "/texts/0", "half a surrogate pair is no text"),
            b'{"texts": ["a", "b", "c"]}': ("too-many-texts", "/texts", "3 texts, 2 at most"),
        }
        for body, wanted in cases.items():
            with self.assertRaises(question.Refused) as caught:
                question.read(body, 2)
            refused = caught.exception
            self.assertEqual((refused.code, refused.pointer, refused.detail), wanted)

    def test_brackets_count_outside_of_strings_only(self):
        self.assertTrue(question.too_nested("[" * 129))
        self.assertTrue(question.too_nested('["a\\"]",' + "[" * 129))
        self.assertFalse(question.too_nested("[]" * 1000))
        self.assertFalse(question.too_nested('["' + "[" * 1000 + '"]'))
