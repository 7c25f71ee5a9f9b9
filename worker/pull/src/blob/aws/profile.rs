//! Profiles of `~/.aws/config` and `~/.aws/credentials`.

use std::{collections::BTreeMap, fmt};

use worker_config::secret::Secret;

use crate::blob::{
    ambient::Ambient,
    fault::{Fault, Kind},
    s3::{Keys, Role},
};

/// One profile, with what both files say of it; the credentials file wins.
#[derive(Clone, Default)]
pub(in crate::blob) struct Profile {
    name: String,
    settings: BTreeMap<String, String>,
    /// What it says of single sign-on in a section of its own.
    session: BTreeMap<String, String>,
}

// === impl Profile ===

impl Profile {
    /// Reads the profile `name`, else the one that the environment names, else the default one. Only one that was asked for must be there.
    pub(in crate::blob) fn read(ambient: &Ambient, name: Option<&str>) -> Result<Self, Fault> {
        let file = |variable, usual| {
            let path = ambient.expand(
                &ambient
                    .find(variable)
                    .unwrap_or_else(|| String::from(usual)),
            );
            std::fs::read_to_string(path).unwrap_or_default()
        };
        let config = file("AWS_CONFIG_FILE", "~/.aws/config");
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
        let named = name
            .map(str::to_owned)
            .or_else(|| ambient.find("AWS_PROFILE"))
            .or_else(|| ambient.find("AWS_DEFAULT_PROFILE"));
        let found = Self::parse(named.as_deref().unwrap_or("default"), &config, &credentials);
        if named.is_some() && found.settings.is_empty() {
            let reason = format!("the AWS profile {} is in no file of profiles", found.name);
            return Err(Fault::new(Kind::Denied, reason));
        }
        Ok(found)
    }

    pub(super) fn parse(name: &str, config: &str, credentials: &str) -> Self {
        let config = sections(config);
        let mut settings = config
            .get(&format!("profile {name}"))
            .cloned()
            .unwrap_or_default();
        if name == "default" {
            settings.extend(config.get(name).cloned().unwrap_or_default());
        }
        settings.extend(sections(credentials).remove(name).unwrap_or_default());
        let session = settings
            .get("sso_session")
            .and_then(|session| config.get(&format!("sso-session {session}")))
            .cloned()
            .unwrap_or_default();
        Self {
            name: name.to_owned(),
            settings,
            session,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::blob) fn find(&self, setting: &str) -> Option<String> {
        let found = self
            .settings
            .get(setting)
            .or_else(|| self.session.get(setting));
        found.filter(|value| !value.is_empty()).cloned()
    }

    pub(super) fn keys(&self) -> Option<Keys> {
        Some(Keys {
            id: Secret::new(self.find("aws_access_key_id")?),
            secret: Secret::new(self.find("aws_secret_access_key")?),
            token: self.find("aws_session_token").map(Secret::new),
        })
    }

    /// The role that it takes on.
    pub(super) fn role(&self, arn: String) -> Role {
        let named = [
            ("role_session_name", "RoleSessionName"),
            ("external_id", "ExternalId"),
            ("duration_seconds", "DurationSeconds"),
        ];
        let parameters = named
            .into_iter()
            .filter_map(|(setting, name)| Some((name.to_owned(), Secret::new(self.find(setting)?))))
            .collect();
        Role { arn, parameters }
    }

    pub(super) fn has_nothing(&self) -> Fault {
        let reason = format!("the AWS profile {} leads to no credentials", self.name);
        Fault::new(Kind::Denied, reason)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === functions ===

/// The sections of a file as Python's `configparser` reads it, without what is indented: that belongs to the setting before it.
fn sections(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut present = None;
    for line in text.lines() {
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(name) = line
            .trim()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let words: Vec<&str> = name
                .split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']))
                .collect();
            present = Some(sections.entry(words.join(" ")).or_default());
        } else if let (Some((setting, value)), Some(section)) =
            (line.split_once(['=', ':']), &mut present)
        {
            section.insert(setting.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests;
