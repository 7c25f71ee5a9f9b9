//! Lists of steps that stand in a file of their own, or in the `pull` section of a `prefect.yaml`.

use serde_json::{Map, Value};

/// Why a text has no list of steps.
#[derive(Debug, thiserror::Error)]
pub enum StepListError {
    /// It is neither YAML nor JSON.
    #[error("the steps are neither YAML nor JSON: {0}")]
    Syntax(String),
    /// It has another form.
    #[error("the steps must be a list of mappings, or a prefect.yaml with a list under 'pull'")]
    Form,
}

/// Reads the steps of a text in YAML, of which JSON is a part. Steps that say nothing are left out, as the reference does.
///
/// # Errors
/// [`StepListError`].
pub fn parse(text: &str) -> Result<Vec<Map<String, Value>>, StepListError> {
    let read: Value =
        serde_saphyr::from_str(text).map_err(|error| StepListError::Syntax(error.to_string()))?;
    let list = match read {
        Value::Object(mut file) => file.remove("pull").unwrap_or(Value::Null),
        list => list,
    };
    let Value::Array(items) = list else {
        return Err(StepListError::Form);
    };
    let steps = items.into_iter().filter(|item| !item.is_null());
    let steps = steps.map(|item| match item {
        Value::Object(step) => Ok(step),
        _ => Err(StepListError::Form),
    });
    let steps: Vec<_> = steps.collect::<Result<_, _>>()?;
    Ok(steps.into_iter().filter(|step| !step.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_the_pull_section_of_a_project_are_read_alike() {
        let list =
            "- prefect.deployments.steps.set_working_directory:\n    directory: /x\n- {}\n-\n";
        let project = format!("name: p\npull:\n{list}");
        let steps = parse(list).expect("a list");
        assert_eq!(steps.len(), 1);
        assert_eq!(parse(&project).expect("a project"), steps);
        assert!(matches!(parse("name: p"), Err(StepListError::Form)));
        assert!(matches!(parse("- text"), Err(StepListError::Form)));
        assert!(matches!(parse("- {"), Err(StepListError::Syntax(_))));
    }
}
