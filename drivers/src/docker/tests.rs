use std::collections::BTreeSet;

use super::default_template;

#[test]
fn the_template_fills_each_field_from_the_variable_of_its_name() {
    let template = default_template();
    let names = |pointer: &str| -> BTreeSet<String> {
        let object = template.pointer(pointer).and_then(|it| it.as_object());
        object.expect("it is an object").keys().cloned().collect()
    };
    assert_eq!(names("/job_configuration"), names("/variables/properties"));
}
