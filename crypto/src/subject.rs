//! Whose a certificate is: the SAN URI `aimass://<tenant>/<role>/<id>`.

use std::fmt;
use std::str::FromStr;

const SCHEME: &str = "aimass://";
const ROLES: [&str; 3] = ["agent", "server", "authority"];

/// Whom a certificate names. Built by [`Subject::new`] and parsing only, so its parts always keep to their rules.
///
/// (The protocol crate's `TenantId`, `Role` and `AgentId` have the same rules; the text is the contract.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Tenant's name: 1 to 32 of a-z, 0-9 and '-', starting with a letter.
    pub tenant: String,
    /// `agent`, `server` or `authority`.
    pub role: String,
    /// Fingerprint of the public key, 32 lower-case hex digits.
    pub id: String,
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a subject: expected aimass://<tenant>/<agent|server|authority>/<32 hex digits>")]
pub struct ParseSubjectError {
    /// What was given, cut to 120 characters.
    pub text: String,
}

impl Subject {
    /// Checks the parts; `id` is the fingerprint of the public key.
    ///
    /// # Errors
    /// [`ParseSubjectError`].
    pub fn new(tenant: &str, role: &str, id: [u8; 16]) -> Result<Self, ParseSubjectError> {
        format!("{SCHEME}{tenant}/{role}/{}", hex::encode(id)).parse()
    }

    /// Whether it is an agent.
    pub fn is_agent(&self) -> bool {
        self.role == "agent"
    }

    /// Whether it is an aggregation server.
    pub fn is_server(&self) -> bool {
        self.role == "server"
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.tenant, self.role, self.id)
    }
}

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, ParseSubjectError> {
        let error = || ParseSubjectError {
            text: text.chars().take(120).collect(),
        };
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(error)?.split('/');
        let (Some(tenant), Some(role), Some(id), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(error());
        };
        let tenant_good = (1..=32).contains(&tenant.len())
            && tenant.starts_with(|c: char| c.is_ascii_lowercase())
            && tenant.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let id_good = id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        if tenant_good && ROLES.contains(&role) && id_good {
            Ok(Self {
                tenant: tenant.to_owned(),
                role: role.to_owned(),
                id: id.to_owned(),
            })
        } else {
            Err(error())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_display(tenant in "[a-z][a-z0-9-]{0,31}", role in 0..3_usize, id: [u8; 16]) {
            let subject = Subject::new(&tenant, ROLES[role], id).expect("parts that keep to the rules");
            prop_assert_eq!(subject.to_string().parse(), Ok(subject));
        }

        #[test]
        fn nothing_panics(text in ".{0,200}") {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.to_string(), text);
            }
        }
    }

    #[test]
    fn near_misses_are_refused() {
        let id = "00112233445566778899aabbccddeeff";
        for good in [format!("aimass://default/agent/{id}"), format!("aimass://a-1/authority/{id}")] {
            assert!(good.parse::<Subject>().is_ok(), "{good}");
        }
        for bad in [
            String::new(),
            format!("https://default/agent/{id}"),
            format!("aimass://default/agent/{id}/"),
            format!("aimass://default/agent/{id}0"),
            format!("aimass://default/agent/{}", id.to_uppercase()),
            format!("aimass:///agent/{id}"),
            format!("aimass://Default/agent/{id}"),
            format!("aimass://1st/agent/{id}"),
            format!("aimass://default/admin/{id}"),
            format!("aimass://default/agent/x/{id}"),
            format!("aimass://{}/agent/{id}", "a".repeat(33)),
            "aimass://default/agent/".to_owned(),
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }
}
