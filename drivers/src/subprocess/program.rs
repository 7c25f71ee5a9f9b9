//! Finds what a plan names on the file system: the working directory, and the program.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    plan::{Directory, Launch, Plan},
    unavailable,
};
use crate::driver::DriverError;

/// Makes the working directory, or sees that it is there.
pub(super) fn prepare_directory(directory: &Directory) -> Result<(), DriverError> {
    match directory {
        Directory::Private(path) => {
            let made = DirBuilder::new().mode(0o700).create(path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(unavailable(path, &error))
                }
                _ => Ok(()),
            }
        }
        Directory::Given { path, field } => {
            let invalid = |reason: String| DriverError::Invalid {
                field: (*field).to_owned(),
                reason: format!("{} {reason}", path.display()),
            };
            match fs::metadata(path) {
                Ok(there) if there.is_dir() => Ok(()),
                Ok(_) => Err(invalid("is not a directory".to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(invalid("does not exist on this machine".to_owned()))
                }
                Err(error) => Err(invalid(format!("cannot be used: {error}"))),
            }
        }
    }
}

/// Finds the program, and puts the arguments together.
pub(super) fn look_up(plan: &Plan) -> Result<(PathBuf, Vec<String>), DriverError> {
    let find = |name: &str| find_program(name, plan.search_path(), plan.directory.path());
    match &plan.launch {
        Launch::Command(arguments) => {
            let name = arguments.first().expect("a plan's command is not empty");
            Ok((find(name)?, arguments.clone()))
        }
        Launch::Python {
            interpreter,
            arguments,
        } => {
            let program = match interpreter {
                Some(path) => find(&path.to_string_lossy())?,
                None => find("python3").or_else(|_| find("python")).map_err(|_| {
                    DriverError::NotFound {
                        what: format!(
                            "a Python interpreter (python3, python) in PATH {}",
                            plan.search_path()
                        ),
                    }
                })?,
            };
            let name = program.to_string_lossy().into_owned();
            let arguments = std::iter::once(name)
                .chain(arguments.iter().cloned())
                .collect();
            Ok((program, arguments))
        }
    }
}

/// Looks a program up as a shell would that runs in `directory`.
pub(super) fn find_program(
    name: &str,
    search_path: &str,
    directory: &Path,
) -> Result<PathBuf, DriverError> {
    let not_executable = |path: &Path| DriverError::Invalid {
        field: format!("program {}", path.display()),
        reason: "it is not an executable file".to_owned(),
    };
    if name.contains('/') {
        let path = directory.join(name);
        return match fs::metadata(&path) {
            Ok(file) if is_executable(&file) => Ok(path),
            Ok(_) => Err(not_executable(&path)),
            Err(_) => Err(DriverError::NotFound {
                what: format!("program {}", path.display()),
            }),
        };
    }
    let mut unusable = None;
    for entry in search_path.split(':') {
        let path = directory.join(entry).join(name);
        match fs::metadata(&path) {
            Ok(file) if is_executable(&file) && !name.is_empty() => return Ok(path),
            Ok(file) if file.is_file() => unusable = unusable.or(Some(path)),
            _ => {}
        }
    }
    Err(match unusable {
        Some(path) => not_executable(&path),
        None => DriverError::NotFound {
            what: format!("program '{name}' in PATH {search_path}"),
        },
    })
}

fn is_executable(file: &fs::Metadata) -> bool {
    file.is_file() && file.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests;
