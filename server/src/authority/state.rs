//! What the authority knows: the folder's content in memory. Every change is on disk before it is in memory, and in memory before it is
//! acknowledged. Blocking (it syncs files), so it runs off the reactor; it reads no clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aimass_crypto::cert::{self, CERTIFICATE_LIFETIME, Root};
use aimass_crypto::sign::SigningKey;
use aimass_net::Identity;
use aimass_net::enrol::{AUTHORITY, Bundle};
use aimass_protocol::bundle::TrustBundle;
use aimass_protocol::{Digest, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_bytes::ByteBuf;

use super::store::{Loaded, Revoked, Store, StoreError, TokenRecord, corrupt};
use super::{AuthorityError, OperatorError, seconds};

/// How long the own certificate is used before it is replaced: well before it expires, and often enough that a fault shows early.
const OWN_CERTIFICATE_RENEWAL_S: i64 = 7 * 24 * 3600;

/// See the module.
pub(crate) struct State {
    pub(super) store: Store,
    pub(super) rng: ChaCha20Rng,
    /// By version; never empty.
    pub(super) bundles: BTreeMap<u64, Bundle>,
    pub(super) current: Bundle,
    /// Every root with a key in the folder, retired ones included.
    pub(super) roots: BTreeMap<Digest, Root>,
    /// SPKI hashes of the current bundle's roots, the issuing one first.
    pub(super) trusted: Vec<Digest>,
    pub(super) tokens: BTreeMap<Digest, TokenRecord>,
    pub(super) revoked: Revoked,
    pub(super) issued: u64,
    pub(super) lifetimes: Lifetimes,
}

/// How long the certificates hold that are issued from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) agent: Duration,
    pub(crate) server: Duration,
}

/// What the QUIC endpoint shows and trusts.
pub(crate) struct Served {
    pub(crate) identity: Identity,
    /// Root certificates (DER) that clients' certificates are verified against.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Seconds since the epoch.
    replace_at_s: i64,
}

impl Served {
    /// Whether the certificate is due to be replaced, or the roots have changed since.
    pub(crate) fn is_stale(&self, now: Timestamp, bundle: &Bundle) -> bool {
        seconds(now) >= self.replace_at_s || !bundle.roots().eq(self.roots.iter().map(Vec::as_slice))
    }
}

impl State {
    /// Opens the folder, making it and the first root when absent (then the second value is true).
    pub(crate) fn open(dir: &Path, lifetimes: Lifetimes, now: Timestamp) -> Result<(Self, bool), AuthorityError> {
        let mut rng = system_rng()?;
        let Loaded {
            store,
            mut bundles,
            mut roots,
            tokens,
            revoked,
            issued,
        } = Store::open(dir)?;
        let mut created = false;
        if bundles.is_empty() {
            if roots.len() > 1 || issued > 0 || !tokens.is_empty() {
                return Err(corrupt(&dir.join("bundles"), &"no trust bundle is there, but the folder is not new").into());
            }
            // One root without a bundle is what a crash during the first start leaves.
            if roots.is_empty() {
                let root = Root::create("AI Mass root 1", seconds(now), &mut rng);
                let spki = spki(&root)?;
                store.save_root(&root, &spki).map_err(StoreError::Io)?;
                roots.insert(spki, root);
            }
            let ders = roots.values().map(|root| ByteBuf::from(root.certificate_der().to_vec())).collect();
            let content = TrustBundle {
                version: 1,
                issued_at: now,
                roots: ders,
                owners: Vec::new(),
            };
            let bundle = Bundle::sign(&content, roots.values().map(Root::key)).map_err(OperatorError::Bundle)?;
            store.save_bundle(&bundle).map_err(StoreError::Io)?;
            bundles.insert(1, bundle);
            created = true;
        }
        let current = bundles
            .values()
            .next_back()
            .cloned()
            .ok_or_else(|| corrupt(&dir.join("bundles"), &"it is empty"))?;
        let trusted = trusted_roots(&current)?;
        if let Some(missing) = trusted.iter().find(|spki| !roots.contains_key(*spki)) {
            let path = dir.join("roots").join(missing.to_hex()).with_extension("pem");
            return Err(corrupt(&path, &"the key of a trusted root is missing").into());
        }
        let mut state = Self {
            store,
            rng,
            bundles,
            current,
            roots,
            trusted,
            tokens,
            revoked,
            issued,
            lifetimes,
        };
        state.forget_old_tokens(now);
        Ok((state, created))
    }

    /// A new own certificate, and the roots that clients are verified against.
    pub(crate) fn serve_as(&mut self, now: Timestamp) -> Result<Served, OperatorError> {
        let key = SigningKey::generate(&mut self.rng);
        let (rng, anchor) = (&mut self.rng, Self::root(&self.roots, self.trusted.last())?);
        let leaf = anchor.issue(AUTHORITY, AUTHORITY, &key.public(), seconds(now), CERTIFICATE_LIFETIME, rng)?;
        Ok(Served {
            identity: Identity::new(vec![leaf, anchor.certificate_der().to_vec()], &key),
            roots: self.current.roots().map(<[u8]>::to_vec).collect(),
            replace_at_s: seconds(now).saturating_add(OWN_CERTIFICATE_RENEWAL_S),
        })
    }

    /// The root that issues.
    pub(super) fn issuing<'a>(roots: &'a BTreeMap<Digest, Root>, trusted: &[Digest]) -> Result<&'a Root, OperatorError> {
        Self::root(roots, trusted.first())
    }

    fn root<'a>(roots: &'a BTreeMap<Digest, Root>, spki: Option<&Digest>) -> Result<&'a Root, OperatorError> {
        let unknown = || OperatorError::UnknownRoot {
            spki: spki.map(Digest::to_hex).unwrap_or_default(),
        };
        spki.and_then(|spki| roots.get(spki)).ok_or_else(unknown)
    }

    /// SPKI hash of the root that issues.
    pub(crate) fn issuing_spki(&self) -> Digest {
        self.trusted.first().copied().unwrap_or(Digest::from_bytes([0; 32]))
    }

    /// SPKI hash of the root behind the authority's own certificate: the one that tokens pin.
    pub(super) fn anchor_spki(&self) -> Digest {
        self.trusted.last().copied().unwrap_or(Digest::from_bytes([0; 32]))
    }
}

/// SPKI hash of a root.
pub(super) fn spki(root: &Root) -> Result<Digest, OperatorError> {
    Ok(Digest::from_bytes(cert::spki_sha256(root.certificate_der())?))
}

/// SPKI hashes of a bundle's roots, in its order.
pub(super) fn trusted_roots(bundle: &Bundle) -> Result<Vec<Digest>, OperatorError> {
    bundle.roots().map(|der| Ok(Digest::from_bytes(cert::spki_sha256(der)?))).collect()
}

fn system_rng() -> Result<ChaCha20Rng, AuthorityError> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(seed.as_mut())
        .map_err(|_| crate::loopback::LoopbackError::Randomness)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}
