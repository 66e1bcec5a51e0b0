//! Whose log it should be. The key has to come from elsewhere than the log: a log can't vouch for itself.

use std::path::Path;

use aimass_crypto::cert;
use aimass_crypto::log::parse_verifier_key;
use aimass_crypto::sign::PublicKey;
use aimass_edge_agent::exit::ExitKind;
use aimass_federation::agent::log::origin;
use aimass_protocol::TenantId;
use aimass_protocol::limits::MAX_CERTIFICATE_BYTES;
use anyhow::Result;

use crate::args::LogKeyArgs;
use crate::bounded_file;
use crate::output::Failure;

/// A log by its name and its server's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogKey {
    /// `aimass/<tenant>`.
    pub(crate) origin: String,
    /// The server's identity key.
    pub(crate) key: PublicKey,
}

impl LogKey {
    /// What the arguments name; without any, the certificate in the folder of the server on this machine, if that is what is looked at.
    ///
    /// # Errors
    /// Text that says what to give instead.
    pub(crate) fn of(args: &LogKeyArgs, server_dir: Option<&Path>) -> Result<Self> {
        match (&args.key, &args.certificate, server_dir) {
            (Some(text), ..) => Self::from_text(text, args.tenant.as_deref()),
            (None, Some(path), _) => Self::from_certificate(path, args.tenant.as_deref()),
            (None, None, Some(dir)) => Self::from_certificate(&dir.join("identity/certificate.der"), args.tenant.as_deref()),
            (None, None, None) => Err(Failure::new(
                ExitKind::Usage,
                "a log can't vouch for itself: give the server's key with --key, or its certificate with --certificate; the operator has it as \
                 identity/certificate.der in the server's folder",
            )
            .into()),
        }
    }

    fn from_text(text: &str, tenant: Option<&str>) -> Result<Self> {
        let text = text.trim();
        let named = parse_verifier_key(text);
        let found = match (named, PublicKey::from_hex(text), tenant) {
            (Some((name, key)), _, tenant) => Self { origin: name, key }.of_tenant(tenant)?,
            (None, Ok(key), tenant) => {
                let tenant: TenantId = tenant.unwrap_or("default").parse()?;
                Self {
                    origin: origin(&tenant),
                    key,
                }
            }
            (None, Err(_), _) => {
                let text = "--key: expected 64 hexadecimal digits, or the verifier key that `aimass log export` shows (aimass/default+...)";
                return Err(Failure::new(ExitKind::Usage, text).into());
            }
        };
        Ok(found)
    }

    fn from_certificate(path: &Path, tenant: Option<&str>) -> Result<Self> {
        let bad = |text: String| Failure::new(ExitKind::BadData, text);
        let der = bounded_file::read(path, MAX_CERTIFICATE_BYTES).map_err(|e| bad(e.to_string()))?;
        let info = cert::parse(&der).map_err(|e| {
            let convert = "a PEM file becomes the DER that is expected with `openssl x509 -outform der`";
            bad(format!("{}: {e}; {convert}", path.display()))
        })?;
        let named: TenantId = info.subject.tenant.parse()?;
        Self {
            origin: origin(&named),
            key: info.public_key,
        }
        .of_tenant(tenant)
    }

    fn of_tenant(self, tenant: Option<&str>) -> Result<Self> {
        let Some(tenant) = tenant else { return Ok(self) };
        let tenant: TenantId = tenant.parse()?;
        if origin(&tenant) == self.origin {
            return Ok(self);
        }
        let text = format!(
            "--tenant {}: this key is of the log {:?}; leave --tenant out",
            tenant.as_str(),
            self.origin
        );
        Err(Failure::new(ExitKind::Usage, text).into())
    }
}

#[cfg(test)]
mod tests {
    use aimass_crypto::log::verifier_key;

    use super::*;

    fn args(key: Option<&str>, tenant: Option<&str>) -> LogKeyArgs {
        LogKeyArgs {
            key: key.map(str::to_owned),
            certificate: None,
            tenant: tenant.map(str::to_owned),
        }
    }

    #[test]
    fn keys_are_read_in_both_forms() {
        let key = PublicKey::from_bytes(&[7; 32]).expect("32 bytes");
        let of = |key: &str, tenant| LogKey::of(&args(Some(key), tenant), None);
        let named = verifier_key("aimass/plant-7", &key);
        assert_eq!(of(&named, None).expect("reads").origin, "aimass/plant-7");
        assert_eq!(of(&named, Some("plant-7")).expect("reads").key, key);
        assert_eq!(of(&key.to_hex(), None).expect("reads").origin, "aimass/default");
        assert_eq!(of(&key.to_hex(), Some("plant-7")).expect("reads").origin, "aimass/plant-7");
        for (key, tenant) in [(named.as_str(), Some("other")), ("abc", None), (&key.to_hex(), Some("No Tenant"))] {
            assert!(of(key, tenant).is_err(), "{key} {tenant:?}");
        }
        let error = LogKey::of(&args(None, None), None).expect_err("no key");
        assert!(error.to_string().contains("--certificate"), "{error}");
    }
}
