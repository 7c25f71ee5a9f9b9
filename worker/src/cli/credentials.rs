//! Credentials that systemd keeps for a unit (`LoadCredential=`): files that only its processes can read, as the settings they stand for.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::Context as _;

/// What a credential may be called, and the variable that says the same.
const CREDENTIALS: [(&str, &str); 2] = [
    ("worker.api-key", "PREFECT_API_KEY"),
    ("worker.auth-string", "PREFECT_API_AUTH_STRING"),
];

/// Adds the unit's credentials to the environment that settings are read from. What is in the environment already wins.
pub(super) fn add(environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let Some(directory) = environment.get("CREDENTIALS_DIRECTORY").cloned() else {
        return Ok(());
    };
    for (name, variable) in CREDENTIALS {
        let file = Path::new(&directory).join(name);
        match fs::read_to_string(&file) {
            Ok(value) => {
                let value = value.trim_end_matches(['\r', '\n']).to_owned();
                environment.entry(variable.to_owned()).or_insert(value);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("credential {}", file.display()));
            }
        }
    }
    Ok(())
}

/// The variable that says the same as a credential of this name.
pub(super) fn variable(credential: &str) -> Option<&'static str> {
    let mut known = CREDENTIALS.iter();
    let found = known.find(|(name, _)| *name == credential);
    found.map(|(_, variable)| *variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_of_the_unit_is_read_where_no_variable_says_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("worker.api-key"), "from a file\n").unwrap();
        fs::write(path("worker.auth-string"), "me:mine").unwrap();
        let directory = directory.path().display().to_string();
        let mut environment = BTreeMap::from([
            ("CREDENTIALS_DIRECTORY".to_owned(), directory),
            ("PREFECT_API_AUTH_STRING".to_owned(), "me:other".to_owned()),
        ]);
        add(&mut environment).unwrap();
        assert_eq!(environment["PREFECT_API_KEY"], "from a file");
        assert_eq!(environment["PREFECT_API_AUTH_STRING"], "me:other");
    }

    #[test]
    fn a_credential_that_cannot_be_read_is_said() {
        let directory = tempfile::tempdir().unwrap();
        // A directory is no file, for root neither.
        fs::create_dir(directory.path().join("worker.api-key")).unwrap();
        let directory = directory.path().display().to_string();
        let mut environment = BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), directory)]);
        let error = add(&mut environment).unwrap_err();
        assert!(error.to_string().contains("worker.api-key"), "{error}");
    }

    #[test]
    fn a_unit_may_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().display().to_string();
        let mut environment = BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), directory)]);
        let before = environment.clone();
        add(&mut environment).unwrap();
        assert_eq!(environment, before);
    }
}
