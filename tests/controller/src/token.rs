//! Tokens: those of the controller itself (ES256), those for the router (HS256), and those of
//! issuers that a test trusts.
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair as _};
use ring::{hmac, signature::UnparsedPublicKey};
use serde_json::{Value, json};

/// Where internal tokens say that they come from.
pub const INTERNAL_ISSUER: &str = "https://localhost:8085";
const AUDIENCE: &str = "https://jumpstarter.dev/controller";
const ROUTER_ISSUER: &str = "https://jumpstarter.dev/stream";
const ROUTER_AUDIENCE: &str = "https://jumpstarter.dev/router";
/// How long a token for the router opens streams.
const ROUTER_LIFE: i64 = 30 * 60;

/// An issuer whose tokens the controller accepts, as an OpenID provider that a test runs.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub url: String,
    /// Its keys: the JSON document of its `jwks_uri`.
    pub keys: Value,
    /// What the tokens must name as an audience; any if `None`.
    pub audience: Option<String>,
    /// The claim that holds the user's name, as `sub` or `preferred_username`.
    pub claim: String,
    /// What the controller puts in front of that name.
    pub prefix: String,
}

/// The keys of one controller.
#[derive(Debug)]
pub(crate) struct Keys {
    internal: EcdsaKeyPair,
    router: hmac::Key,
    random: SystemRandom,
}

impl Keys {
    pub(crate) fn generate() -> Result<Self, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        let internal = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
            .map_err(|_| ring::error::Unspecified)?;
        let router = hmac::Key::generate(hmac::HMAC_SHA256, &random)?;
        Ok(Self { internal, router, random })
    }

    /// A token of the controller for `subject`, which is `client:NS:NAME:UID` or `exporter:…`.
    pub(crate) fn sign(&self, subject: &str, now: i64, life: i64) -> String {
        let claims = json!({
            "iss": INTERNAL_ISSUER, "aud": [AUDIENCE], "sub": subject,
            "iat": now, "nbf": now, "exp": now + life, "jti": uuid(4, now),
        });
        let text = unsigned(&json!({"alg": "ES256", "kid": "default", "typ": "JWT"}), &claims);
        let signature = self.internal.sign(&self.random, text.as_bytes());
        signed(text, signature.as_ref().map_or(&[][..], AsRef::as_ref))
    }

    /// A token for one stream through the router.
    pub(crate) fn sign_for_router(&self, stream: &str, now: i64) -> String {
        self.sign_claims_for_router(&router_claims(stream, now))
    }

    /// A token for the router with claims that may be wrong.
    pub(crate) fn sign_claims_for_router(&self, claims: &Value) -> String {
        let text = unsigned(&json!({"alg": "HS256", "typ": "JWT"}), claims);
        let tag = hmac::sign(&self.router, text.as_bytes());
        signed(text, tag.as_ref())
    }

    /// The stream that a token for the router is for.
    pub(crate) fn stream_of(&self, token: &str, now: i64) -> Option<String> {
        let parts = Parts::of(token)?;
        hmac::verify(&self.router, parts.text.as_bytes(), &parts.signature).ok()?;
        let claims = &parts.claims;
        let is_for_router = parts.header["alg"] == "HS256"
            && claims["iss"] == ROUTER_ISSUER
            && has_audience(claims, ROUTER_AUDIENCE)
            && claims["exp"].as_i64()? > now
            && claims["nbf"].as_i64()? <= now;
        is_for_router.then(|| claims["sub"].as_str().map(str::to_owned))?
    }

    /// The user of a token, as `internal:SUBJECT`. The error is the text that the controller gives.
    pub(crate) fn user_of(
        &self,
        token: &str,
        issuers: &[Issuer],
        now: i64,
    ) -> Result<String, String> {
        let unknown = || "failed to authenticate token".to_owned();
        let parts = Parts::of(token).ok_or_else(unknown)?;
        let claims = &parts.claims;
        let issuer = claims["iss"].as_str().unwrap_or_default();
        let bad_signature = || {
            "oidc: verify token: failed to verify signature: failed to verify id token signature"
                .to_owned()
        };
        let user = if issuer == INTERNAL_ISSUER {
            let key = self.internal.public_key().as_ref();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
                .verify(parts.text.as_bytes(), &parts.signature)
                .map_err(|_| bad_signature())?;
            format!("internal:{}", claims["sub"].as_str().unwrap_or_default())
        } else {
            let issuer = issuers.iter().find(|i| i.url == issuer).ok_or_else(unknown)?;
            if !parts.is_signed_by(&issuer.keys) {
                return Err(bad_signature());
            }
            if issuer.audience.as_ref().is_some_and(|wanted| !has_audience(claims, wanted)) {
                return Err(format!(
                    "oidc: verify token: oidc: expected audience in {:?}",
                    issuer.audience
                ));
            }
            let name = claims[&issuer.claim].as_str().ok_or_else(|| {
                format!("oidc: parse username claims {:?}: claim not present", issuer.claim)
            })?;
            format!("{}{name}", issuer.prefix)
        };
        let expiry = claims["exp"].as_i64().unwrap_or_default();
        if expiry <= now {
            let expiry = prost_types::Timestamp { seconds: expiry, nanos: 0 };
            return Err(format!(
                "oidc: verify token: oidc: token is expired (Token Expiry: {expiry})"
            ));
        }
        Ok(user)
    }
}

/// The claims of a token for the router.
pub(crate) fn router_claims(stream: &str, now: i64) -> Value {
    json!({
        "iss": ROUTER_ISSUER, "aud": [ROUTER_AUDIENCE], "sub": stream,
        "iat": now, "nbf": now, "exp": now + ROUTER_LIFE, "jti": uuid(4, now),
    })
}

/// A random UUID of version 4, or of version 7, which begins with the time.
pub(crate) fn uuid(version: u8, now: i64) -> String {
    let mut bits = fastrand::u128(..);
    if version == 7 {
        let milliseconds =
            u128::from(now.unsigned_abs()) * 1000 + u128::from(fastrand::u16(..1000));
        bits = bits >> 48 | milliseconds << 80;
    }
    bits = bits & !(0xf << 76) | u128::from(version) << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn signed(text: String, signature: &[u8]) -> String {
    text + "." + &BASE64.encode(signature)
}

fn has_audience(claims: &Value, wanted: &str) -> bool {
    let audience = &claims["aud"];
    let listed = audience.as_array().is_some_and(|all| all.iter().any(|each| each == wanted));
    listed || audience == wanted
}

/// A token, read and not yet checked.
struct Parts<'a> {
    header: Value,
    claims: Value,
    text: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let decode = |part: &str| serde_json::from_slice(&BASE64.decode(part).ok()?).ok();
        let signature = BASE64.decode(signature).ok()?;
        Some(Self { header: decode(header)?, claims: decode(claims)?, text, signature })
    }

    /// Whether one of the keys of a JWKS document made the signature.
    fn is_signed_by(&self, keys: &Value) -> bool {
        let keys = keys["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let id = &self.header["kid"];
        let named = keys.iter().filter(|key| id.is_null() || key["kid"] == *id);
        let field = |key: &Value, name: &str| BASE64.decode(key[name].as_str()?).ok();
        let verify = |key: &Value| -> Option<()> {
            let text = self.text.as_bytes();
            match self.header["alg"].as_str()? {
                "RS256" => {
                    let (n, e) = (field(key, "n")?, field(key, "e")?);
                    let algorithm = &signature::RSA_PKCS1_2048_8192_SHA256;
                    signature::RsaPublicKeyComponents { n, e }
                        .verify(algorithm, text, &self.signature)
                        .ok()
                }
                "ES256" => {
                    let mut point = vec![4];
                    point.extend(field(key, "x")?);
                    point.extend(field(key, "y")?);
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(text, &self.signature)
                        .ok()
                }
                _ => None,
            }
        };
        named.into_iter().any(|key| verify(key).is_some())
    }
}
