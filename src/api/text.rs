//! Text that people write and other people read: names shown in lists, addresses, descriptions. Owns the
//! schemas that keep control characters and direction overrides out, so that nobody's name can forge a line
//! of a log or reverse a row of a table.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A CEL expression that is true when `self` holds no control character, no direction override, and nothing
/// that takes no room. The two joiners stay: Persian is not written without one, nor emoji without the other.
macro_rules! printable {
    () => {
        "!self.matches('[\\\\x00-\\\\x1f\\\\x7f-\\\\x9f\\\\x{ad}\\\\x{61c}\\\\x{200b}\\\\x{200e}\\\\x{200f}\\\\x{2028}-\\\\x{202e}\\\\x{2060}-\\\\x{206f}\\\\x{feff}]')"
    };
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal, $rule:expr, $message:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "minLength": $min,
                    "maxLength": $max,
                    "x-kubernetes-validations": [{ "rule": $rule, "message": $message }],
                })
            }
        }
    };
}

text_type!(
    /// One line that people read: 1 to 128 characters, printable.
    Line, 1, 128, printable!(),
    "write printable text: control characters, invisible ones and direction overrides are not allowed"
);

text_type!(
    /// A description that people read: at most 1024 characters on one line, printable.
    Paragraph, 0, 1024, printable!(),
    "write printable text on one line: control characters, invisible ones and direction overrides are not allowed"
);

text_type!(
    /// A Kubernetes username: 1 to 253 characters, printable.
    UserId, 1, 253, printable!(),
    "write the Kubernetes username: control characters, invisible ones and direction overrides are not allowed"
);

text_type!(
    /// An e-mail address: something before and after one `@`, printable and without spaces. Nobody verifies it.
    Email, 3, 254, concat!("self.matches('^[^@ ]+@[^@ ]+$') && ", printable!()),
    "write an e-mail address such as ada@example.org, or leave it out"
);

text_type!(
    /// The name of an object in the same namespace: a DNS subdomain.
    ObjectName, 1, 253, "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    "write the object's name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
);

text_type!(
    /// The name of a volume: a DNS label of at most 32 characters, since a claim's name is made from it.
    VolumeName, 1, 32, "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "write a volume name: a lower-case letter, then letters, digits and '-', ending with a letter or digit"
);

text_type!(
    /// The name of a namespace: a DNS label.
    NamespaceName, 1, 63, "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "write a namespace: lower-case letters, digits and '-', beginning and ending with a letter or digit"
);

text_type!(
    /// A network, as an address and the length of its prefix.
    Cidr, 3, 49, "isCIDR(self)",
    "write a network such as 10.20.0.0/16 or 2001:db8::/32; one address is 192.0.2.10/32"
);

text_type!(
    /// A host name or an IP address, without a port.
    Host, 1, 253, "isIP(self) || self.matches('^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*[.]?$')",
    "write a host name or an IP address alone, such as build-7.example.org or 192.0.2.10; the port belongs in spec.access.port"
);

text_type!(
    /// A public key of SSH, as a line of OpenSSH.
    HostKey, 68, 1024, "self.matches('^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( [ -~]*)?$')",
    "write a line such as that of /etc/ssh/ssh_host_ed25519_key.pub: ssh-ed25519 AAAA…, or an ecdsa-sha2 key; RSA is not taken"
);

text_type!(
    /// The SHA-256 of a certificate, in hexadecimal pairs.
    Fingerprint, 95, 95, "self.matches('^([0-9A-F]{2}:){31}[0-9A-F]{2}$')",
    "write what `openssl x509 -noout -fingerprint -sha256` prints after '=': 32 pairs such as 9F:0A:…"
);

text_type!(
    /// The path of a web application, from the root.
    UrlPath, 1, 512, "self.startsWith('/') && self.matches('^[-A-Za-z0-9._~!$&()*+,;=:@%/]*$') && !self.contains('..')",
    "write a path that begins with '/', such as /lab, without spaces, '..', query or fragment"
);

text_type!(
    /// A time that comes again, in the five fields of cron; whether each field can be is known when it is read.
    Cron, 9, 100, "self.matches('^[0-9A-Za-z*/,#?-]+( [0-9A-Za-z*/,#?-]+){4}$')",
    "write the five fields of cron with one space between them: minute, hour, day of month, month, day of week, as 30 7 * * 1-5"
);

text_type!(
    /// A time zone, by its IANA name.
    TimeZone, 1, 64, "self.matches('^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+)*$')",
    "write a time zone by its IANA name, such as Europe/Warsaw or UTC"
);
