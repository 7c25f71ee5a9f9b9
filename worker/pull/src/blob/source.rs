//! What a step or a storage block asks for, made of its inputs. Pure: reads no file, no environment, and opens no connection.

use std::{fmt, path::PathBuf};

use serde_json::{Map, Value};

use super::{azure::Azure, disk::Disk, gcs::Gcs, inputs::Inputs, key::Backslash, s3::S3, web::Web};

/// Where code is: a place in a store, and where a step puts it.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) store: Store,
    /// The folder in it, without slashes around; empty for all of it.
    pub(super) prefix: String,
    pub(super) placement: Placement,
}

/// A kind of store. What it takes to open one is private: it holds credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Store {
    /// S3, or what speaks like it.
    S3(Box<S3>),
    /// Google Cloud Storage.
    Gcs(Box<Gcs>),
    /// Azure Blob Storage.
    Azure(Box<Azure>),
    /// One file by HTTP.
    Web(Box<Web>),
    /// A directory of this machine.
    Disk(Disk),
}

/// Where in the directory of its step a source belongs, and what the step gives to later ones.
#[derive(Clone, Debug)]
pub(super) enum Placement {
    /// Into the directory itself.
    Here {
        /// What the output with the container's name is called.
        container: &'static str,
        /// The folder as it was given.
        folder: String,
    },
    /// Into a directory below it.
    Below {
        directory: PathBuf,
        /// Whether what was in it is removed.
        emptied: bool,
        /// Whether a folder with nothing in it is an error: for the reference it is where fsspec looks for it.
        must_exist: bool,
    },
}

/// Why inputs do not name a place that can be pulled from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No step of this name pulls from a blob store; or no block of this type.
    #[error("{0} does not name a blob store that this worker can pull from")]
    Unknown(String),
    /// An input is missing or wrong.
    #[error("input {input} {problem}")]
    Input {
        /// Its name, with the name of the mapping that it is in and a dot before it.
        input: String,
        /// What is the matter with it; never its value, which may be secret.
        problem: String,
    },
}

/// A URL as the reference splits it (Python's `urlsplit`): no decoding, and nothing is made of host or port.
struct Address<'a> {
    scheme: String,
    /// Between `//` and the next slash.
    authority: &'a str,
    /// Without slashes around.
    path: &'a str,
}

// === impl Source ===

impl Source {
    /// Reads the inputs of a pull step, after templating and without `id` and `requires`.
    ///
    /// `step` is the last part of the step's name: `pull_from_s3`, `pull_from_gcs`, `pull_from_azure_blob_storage`,
    /// `pull_from_remote_storage`. Legacy names are the caller's to translate.
    pub fn from_step(step: &str, inputs: &Map<String, Value>) -> Result<Self, SourceError> {
        let inputs = Inputs::new(inputs);
        let (store, container) = match step {
            "pull_from_s3" => {
                inputs.allow(&["bucket", "folder", "credentials", "client_parameters"])?;
                let credentials = inputs.map("credentials")?;
                let parameters = inputs.map("client_parameters")?;
                let s3 = S3::new(inputs.text("bucket")?, credentials, parameters)?;
                (Store::S3(Box::new(s3)), "bucket")
            }
            "pull_from_gcs" => {
                inputs.allow(&["bucket", "folder", "project", "credentials"])?;
                let gcs = Gcs::new(inputs.text("bucket")?, inputs.map("credentials")?)?;
                (Store::Gcs(Box::new(gcs)), "bucket")
            }
            "pull_from_azure_blob_storage" => {
                inputs.allow(&["container", "folder", "credentials"])?;
                let azure = Azure::new(inputs.text("container")?, inputs.map("credentials")?)?;
                (Store::Azure(Box::new(azure)), "container")
            }
            "pull_from_remote_storage" => return Self::of_url(inputs.text("url")?, inputs, "url"),
            _ => return Err(SourceError::Unknown(step.to_owned())),
        };
        if !inputs.contains("folder") {
            return Err(inputs.wrong("folder", "is missing"));
        }
        let folder = inputs.find_text("folder")?.unwrap_or_default();
        Ok(Self {
            store,
            prefix: prefix(folder).ok_or_else(|| inputs.wrong("folder", NO_FOLDER))?,
            placement: Placement::Here {
                container,
                folder: folder.to_owned(),
            },
        })
    }

    /// Reads a storage block for `pull_with_block`: its type, the name of its document, and the document's `data` with nested
    /// blocks expanded.
    ///
    /// Of the types `s3-bucket`, `gcs-bucket`, `azure-blob-storage-container`, `remote-file-system` and `local-file-system`;
    /// repositories are not blob stores.
    pub fn from_block(
        type_slug: &str,
        name: &str,
        data: &Map<String, Value>,
    ) -> Result<Self, SourceError> {
        let data = Inputs::new(data);
        let folder = |input| {
            let folder = data.find_text(input)?.unwrap_or_default();
            prefix(folder).ok_or_else(|| data.wrong(input, NO_FOLDER))
        };
        let none = Map::new();
        let (store, prefix) = match type_slug {
            "s3-bucket" => {
                let credentials = data.map("credentials")?;
                let s3 = S3::new(data.text("bucket_name")?, credentials, Inputs::new(&none))?;
                (Store::S3(Box::new(s3)), folder("bucket_folder")?)
            }
            "gcs-bucket" => {
                let gcs = Gcs::new(data.text("bucket")?, data.map("gcp_credentials")?)?;
                (Store::Gcs(Box::new(gcs)), folder("bucket_folder")?)
            }
            "azure-blob-storage-container" => {
                let azure = Azure::new(data.text("container_name")?, data.map("credentials")?)?;
                (Store::Azure(Box::new(azure)), folder("base_folder")?)
            }
            "remote-file-system" => {
                let found =
                    Self::of_url(data.text("basepath")?, data.map("settings")?, "basepath")?;
                (found.store, found.prefix)
            }
            "local-file-system" => (Store::Disk(Disk::of_block(data)?), String::new()),
            _ => return Err(SourceError::Unknown(format!("block type {type_slug}"))),
        };
        let directory = directory(&format!("{type_slug}-{name}"))
            .ok_or_else(|| data.wrong("name", "cannot be the name of a directory"))?;
        Ok(Self {
            store,
            prefix,
            placement: Placement::Below {
                directory,
                emptied: true,
                must_exist: type_slug == "remote-file-system",
            },
        })
    }

    /// Whether the files are on this machine's disk: then the job's disk is meant, where that is another one.
    pub fn is_local(&self) -> bool {
        matches!(self.store, Store::Disk(_))
    }

    fn of_url(url: &str, settings: Inputs<'_>, input: &str) -> Result<Self, SourceError> {
        let wrong = |problem| settings.wrong(input, problem);
        let address = Address::split(url).ok_or_else(|| wrong("has no scheme such as s3://"))?;
        let need = |name: &str| match name {
            "" => Err(wrong("names no bucket or container")),
            name => Ok(name.to_owned()),
        };
        let (user, host) = address.user_and_host();
        let bucket = address.authority;
        let (store, below) = match address.scheme.as_str() {
            "s3" | "s3a" => (
                Store::S3(Box::new(S3::of_settings(&need(bucket)?, settings)?)),
                bucket,
            ),
            "gs" | "gcs" => (
                Store::Gcs(Box::new(Gcs::of_settings(&need(bucket)?, settings)?)),
                bucket,
            ),
            "az" | "abfs" | "abfss" | "adl" => {
                let (container, host) = if user.is_empty() {
                    (host, "")
                } else {
                    (user, host)
                };
                let azure = Azure::of_settings(&need(container)?, host, settings)?;
                (Store::Azure(Box::new(azure)), bucket)
            }
            "http" | "https" => (Store::Web(Box::new(Web::of_settings(url, settings)?)), host),
            "file" | "local" => {
                let disk = Disk::new(&format!("/{}", address.path), false);
                (Store::Disk(disk), "")
            }
            scheme => {
                return Err(SourceError::Unknown(format!(
                    "a URL of the scheme {scheme}"
                )));
            }
        };
        let mut path = address.path;
        if let Store::Web(_) = store {
            // The last part is the file; what is before it is the directory.
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        Ok(Self {
            prefix: prefix(path).ok_or_else(|| wrong(NO_FOLDER))?,
            store,
            placement: Placement::Below {
                directory: directory(&format!("{below}/{path}")).ok_or_else(|| wrong(NO_FOLDER))?,
                emptied: false,
                must_exist: true,
            },
        })
    }

    /// What a backslash in a key is.
    pub(super) fn backslash(&self) -> Backslash {
        match self.placement {
            Placement::Here { .. } => Backslash::Slash,
            Placement::Below { .. } => Backslash::Letter,
        }
    }

    /// The name of the bucket or container.
    pub(super) fn container(&self) -> &str {
        match &self.store {
            Store::S3(s3) => &s3.bucket,
            Store::Gcs(gcs) => &gcs.bucket,
            Store::Azure(azure) => &azure.container,
            Store::Web(_) | Store::Disk(_) => "",
        }
    }

    /// The bucket or container without the folder; all of it for what has none.
    pub(super) fn container_url(&self) -> String {
        match &self.store {
            Store::S3(s3) => format!("s3://{}", s3.bucket),
            Store::Gcs(gcs) => format!("gs://{}", gcs.bucket),
            Store::Azure(azure) => format!("az://{}", azure.container),
            Store::Web(web) => web.to_string(),
            Store::Disk(disk) => disk.to_string(),
        }
    }
}

/// The place, without what it takes to be let in: `s3://bucket/folder`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.container_url())?;
        match self.prefix.as_str() {
            "" => Ok(()),
            _ if matches!(self.store, Store::Web(_) | Store::Disk(_)) => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

// === impl Address ===

impl<'a> Address<'a> {
    fn split(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            authority,
            path: path.trim_matches('/'),
        })
    }

    fn user_and_host(&self) -> (&'a str, &'a str) {
        self.authority
            .rsplit_once('@')
            .unwrap_or(("", self.authority))
    }
}

// === functions ===

const NO_FOLDER: &str =
    "is not a folder: it has an empty part, `.`, `..` or a control character in it";

/// A folder as the beginning of keys, without slashes around; `None` if no listing can be asked for it.
fn prefix(folder: &str) -> Option<String> {
    let folder = folder.trim_matches('/');
    let path = object_store::path::Path::parse(folder).ok()?;
    (path.as_ref() == folder).then(|| folder.to_owned())
}

/// A relative path that stays where it is.
fn directory(path: &str) -> Option<PathBuf> {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    let mut directory = PathBuf::new();
    for part in parts {
        if part == ".." || part.contains(['\0', '\\']) {
            return None;
        }
        directory.push(part);
    }
    Some(directory)
}

#[cfg(test)]
mod tests;
