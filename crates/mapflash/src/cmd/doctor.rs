//! `mapflash doctor`

use serde_json::json;

use super::output;
use crate::args::DoctorArgs;
use crate::board::Hub;
use crate::doctor::{self, Finding, Level};
use crate::error::{AppError, Cause};
use crate::render::Display;
use crate::render::json::Object;

/// Says what could keep boards from being reached. Problems are a failure, warnings are not.
pub(crate) fn run(args: &DoctorArgs, display: &Display) -> Result<(), AppError> {
    let hub = Hub::open(&args.bus)?;
    let findings = doctor::examine(&hub).map_err(Cause::Bus)?;
    if display.is_json() {
        for Finding { level, name, text, fix } in &findings {
            display.object(&Object::Finding { level: level.word(), name, message: text, fix: fix.as_deref() });
        }
    } else {
        output::print(page(&findings).as_bytes())?;
    }
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
        0 => {
            display.object(&Object::Result(json!({ "command": "doctor", "status": 0, "problems": 0 })));
            Ok(())
        }
        problems => Err(Cause::Unwell(problems).into()),
    }
}

fn page(findings: &[Finding]) -> String {
    let mut page = String::new();
    for finding in findings {
        page.push_str(&format!("{:7}  {}\n", finding.level.word(), finding.text));
        if let Some(fix) = &finding.fix {
            page.push_str(&format!("{:7}    fix: {fix}\n", ""));
        }
    }
    page
}
