//! Tokens made here, and one made elsewhere.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use super::*;

const NOW_S: u64 = 1_800_000_000;
/// The public half of a key that OpenSSL made; the other half is gone.
const RSA_N: &str = concat!(
    "lfmK1-oXnQp4_pKU4AOFMqPQQa6rFxQ0baFxPwt7QS1vDGJC3qJwwkHZ9Ay4GrQ-8Js3hOBDB6rnqOBAV9uftn2gtKP06Vk9",
    "NuYlhVLs3izCSfQF4xp1XHR50p1mXAmSc7EBYG-Ma4ThC2cSK_JvxiJltqXAz7mGFz6iab-Y7KP8MG1De87eq1sf1Fvjfyju",
    "HwX9IC40Mzxa-qVexhwMU9u57bri1XXvSBjnC4OC8eBdYkqNoajWW8dom9ATGApZ5wv7mb40hVbehe-VwTZZISwuLGZS50rQ",
    "_lDsn_dTRqpHoWUuZqpzXePb1jZ6Kq8B3XG8zi43hifPAMBVupzWSQ",
);
/// Signed by OpenSSL with that key: expires ten minutes from `NOW_S`.
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ0ZW5vbiIsInN",
    "1YiI6ImFubiIsInRlbmFudCI6InNob3AiLCJzY29wZSI6Im9wZW5pZCBpbnZva2UiLCJleHAiOjE4MDAwMDA2MDB9.f7W1x5",
    "_DU-HjjJVqFErv4zQzwvejTbmtzV_F093MqEBeBNb-ELmpJD2lR4SjAu88YRgnpCu_82tb0UaWEKOxOYnhYs6WewkCq0_9nL",
    "Gzfr8YOrDlQaVAWGTD-20kB6C3zkxpPxPGhWpakxpkjhPuhuZ5LSGGxIQK4TlaX0c5Qwxx5jIJ7oF_6IIulxPL0fNu_q2q7Y",
    "Q9D0KkMGWvoOwMbhbTWpL39YWESACD3Kql57iqnwBqIiJWNGVWh4DHpDp0naednCOBy83hZJ8D3qaMOShhxzk2kEiPhyWkLC",
    "_qS7cDcslu_MJ6HyNOf0rdb22QM7Rz6saqR2ESIQzWFBEvmA",
);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_S)
}

fn later(seconds: u64) -> SystemTime {
    now() + Duration::from_secs(seconds)
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An identity provider with a key of each kind.
struct Issuer {
    folder: tempfile::TempDir,
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let ed = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let issuer = Self { folder: tempfile::tempdir().unwrap(), ed, ec };
        issuer.publish(&json!({"keys": [issuer.ed_key("ed"), issuer.ec_key("ec"), rsa_key("rsa")]}).to_string());
        issuer
    }

    fn publish(&self, text: &str) {
        let partial = self.folder.path().join("partial");
        fs::write(&partial, text).unwrap();
        fs::rename(partial, self.config().jwks).unwrap();
    }

    fn config(&self) -> Jwt {
        let text = "issuer = 'https://id.example'\naudience = 'tenon'\njwks = ''";
        Jwt { jwks: self.folder.path().join("jwks.json"), ..toml::from_str(text).unwrap() }
    }

    fn verifier(&self) -> Verifier {
        Verifier::load(self.config(), now()).unwrap()
    }

    fn ed_key(&self, kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(self.ed.public_key())})
    }

    fn ec_key(&self, kid: &str) -> Value {
        let point = &self.ec.public_key().as_ref()[1..];
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": b64(&point[..32]), "y": b64(&point[32..])})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = match header["alg"].as_str() {
            Some("ES256") => b64(self.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap()),
            Some("EdDSA") => b64(self.ed.sign(message.as_bytes())),
            _ => String::new(),
        };
        format!("{message}.{signature}")
    }

    /// A good token, but for these claims; null takes one away.
    fn token(&self, changes: Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(changes))
    }
}

fn rsa_key(kid: &str) -> Value {
    json!({"kty": "RSA", "kid": kid, "n": RSA_N, "e": "AQAB"})
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({"iss": "https://id.example", "aud": "tenon", "sub": "ann", "tenant": "shop",
        "scope": "openid invoke", "exp": NOW_S + 600});
    for (claim, value) in changes.as_object().unwrap() {
        let _ = claims.as_object_mut().unwrap().remove(claim);
        if !value.is_null() {
            claims[claim] = value.clone();
        }
    }
    claims
}

fn refused(verifier: &Verifier, token: &str) -> Refusal {
    let error = verifier.verify(token, now()).unwrap_err();
    assert_eq!(error.to_string(), "the token is not valid");
    error.0
}

fn claim(claim: &str) -> Refusal {
    Refusal::Claim { claim: claim.into() }
}

#[test]
fn a_good_token_of_each_kind_says_who_it_is() {
    let issuer = Issuer::new();
    let (verifier, claims) = (issuer.verifier(), claims(json!({})));
    let expected =
        Claims { tenant: "shop".into(), scopes: "invoke".parse().unwrap(), subject: "ann".into(), expires: later(600) };
    for header in [
        json!({"alg": "EdDSA", "kid": "ed"}),
        json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "ES256"}),
    ] {
        assert_eq!(verifier.verify(&issuer.sign(&header, &claims), now()).as_ref(), Ok(&expected), "{header}");
    }
    assert_eq!(verifier.verify(RSA_TOKEN, now()).as_ref(), Ok(&expected));
    let caller = crate::access::Caller::of_claims(&expected);
    assert_eq!((caller.tenant(), caller.by()), (Some("shop"), "jwt:ann"));
    assert_eq!(caller.sticky(), crate::access::Caller::of_claims(&Claims { expires: later(9), ..expected }).sticky());
}

#[test]
fn a_signature_counts_only_with_its_own_key_and_algorithm() {
    let issuer = Issuer::new();
    let (verifier, claims) = (issuer.verifier(), claims(json!({})));
    let unknown = |kid: &str| Refusal::UnknownKey { kid: Some(kid.into()) };
    for (header, expected) in [
        (json!({"alg": "none", "kid": "ed"}), Refusal::Malformed),
        (json!({"alg": "HS256", "kid": "rsa"}), unknown("rsa")),
        (json!({"alg": "RS384", "kid": "rsa"}), unknown("rsa")),
        (json!({"alg": "PS256", "kid": "rsa"}), unknown("rsa")),
        (json!({"alg": "EdDSA", "kid": "rsa"}), unknown("rsa")),
        (json!({"alg": "RS256", "kid": "rsa"}), Refusal::Signature),
        (json!({"alg": "EdDSA", "kid": "ED"}), unknown("ED")),
        (json!({"alg": "EdDSA", "kid": "x".repeat(1000)}), unknown(&"x".repeat(64))),
        (json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}), Refusal::Critical),
        (json!({"alg": "EdDSA", "kid": "ed", "crit": []}), Refusal::Critical),
        (json!({"kid": "ed"}), Refusal::Malformed),
    ] {
        assert_eq!(refused(&verifier, &issuer.sign(&header, &claims)), expected, "{header}");
    }
    // A key that the token brings itself is not asked.
    let stranger = Issuer { ed: Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), ..Issuer::new() };
    let brought = json!({"alg": "EdDSA", "kid": "ed", "jwk": stranger.ed_key("ed")});
    assert_eq!(refused(&verifier, &stranger.sign(&brought, &claims)), Refusal::Signature);
    // Nor one that the configuration does not allow.
    let strict = Verifier::load(Jwt { algorithms: vec![Algorithm::Es256], ..issuer.config() }, now()).unwrap();
    assert_eq!(refused(&strict, &issuer.token(json!({}))), unknown("ed"));
}

#[test]
fn each_claim_is_asked_for() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    for (changes, expected) in [
        (json!({"iss": null}), claim("iss")),
        (json!({"iss": "https://id.example/"}), Refusal::Issuer),
        (json!({"aud": null}), claim("aud")),
        (json!({"aud": 7}), claim("aud")),
        (json!({"aud": []}), Refusal::Audience),
        (json!({"aud": ["other", "Tenon"]}), Refusal::Audience),
        (json!({"exp": null}), claim("exp")),
        (json!({"exp": "1900000000"}), claim("exp")),
        (json!({"exp": -1}), claim("exp")),
        (json!({"exp": 1e30}), claim("exp")),
        (json!({"exp": 1.8e19}), claim("exp")),
        (json!({"exp": NOW_S - 30}), Refusal::Expired { ago_s: 30 }),
        (json!({"nbf": NOW_S + 31}), Refusal::Early { in_s: 31 }),
        (json!({"nbf": "soon"}), claim("nbf")),
        (json!({"sub": null}), claim("sub")),
        (json!({"sub": ""}), claim("sub")),
        (json!({"tenant": null}), claim("tenant")),
        (json!({"tenant": ["shop"]}), claim("tenant")),
        (json!({"tenant": ""}), claim("tenant")),
        (json!({"tenant": "../etc"}), claim("tenant")),
        (json!({"tenant": "-shop"}), claim("tenant")),
        (json!({"tenant": "x".repeat(65)}), claim("tenant")),
        (json!({"scope": {"invoke": true}}), claim("scope")),
        (json!({"scope": ["invoke", 1]}), claim("scope")),
    ] {
        let token = issuer.token(changes.clone());
        assert_eq!(refused(&verifier, &token), expected, "{changes}");
    }
    for (changes, scopes) in [
        (json!({"aud": ["other", "tenon"], "scope": ["deploy", "admin", "openid"]}), "deploy admin"),
        (json!({"exp": NOW_S - 29, "nbf": NOW_S + 30, "scope": null}), ""),
        (json!({"exp": NOW_S as f64 + 0.5, "tenant": "x".repeat(64), "scope": ""}), ""),
    ] {
        let claims = verifier.verify(&issuer.token(changes.clone()), now()).unwrap();
        assert_eq!(claims.scopes.to_string(), scopes, "{changes}");
    }
}

#[test]
fn long_and_broken_tokens_are_refused() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    assert_eq!(refused(&verifier, &issuer.token(json!({"pad": "x".repeat(8000)}))), Refusal::Long);
    assert!(verifier.verify(&issuer.token(json!({"pad": "x".repeat(4000)})), now()).is_ok());
    let good = issuer.token(json!({}));
    for broken in
        ["", ".", "..", "a.b.c", &good[1..], &format!("{good}."), &format!("{good}="), &good.replace('.', " ")]
    {
        assert_eq!(refused(&verifier, broken), Refusal::Malformed, "{broken}");
    }
    let no_object = issuer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &json!([1]));
    assert_eq!(refused(&verifier, &no_object), Refusal::Malformed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_changed_letter_spoils_a_token(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.-]") {
        let issuer = Issuer::new();
        let (verifier, good) = (issuer.verifier(), issuer.token(json!({})));
        let at = at.index(good.len());
        let changed = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
        prop_assert_eq!(verifier.verify(&changed, now()).is_ok(), changed == good);
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let issuer = Issuer::new();
    assert_eq!(issuer.config().validate(), Ok(()));
    let broken: [fn(&mut Jwt); 6] = [
        |config| config.issuer.clear(),
        |config| config.audience = "x".repeat(513),
        |config| config.tenant_claim.clear(),
        |config| config.jwks = PathBuf::new(),
        |config| config.leeway_s = 301,
        |config| config.algorithms.clear(),
    ];
    for change in broken {
        let mut config = issuer.config();
        change(&mut config);
        assert!(config.validate().is_err(), "{config:?}");
    }
    let base = "issuer = 'i'\naudience = 'a'\njwks = 'k'\n";
    let config: Jwt = toml::from_str(base).unwrap();
    assert_eq!((config.tenant_claim.as_str(), config.scope_claim.as_str(), config.leeway_s), ("tenant", "scope", 30));
    for wrong in ["algorithms = ['HS256']", "algorithms = ['none']", "algorithm = []", "leeway_s = -1"] {
        assert!(toml::from_str::<Jwt>(&format!("{base}{wrong}")).is_err(), "{wrong}");
    }
}
