use crate::recording::Application;
use crate::replay::{NotBuilt, Subject, World};
use std::sync::Arc;
pub(crate) fn build(_: &Application, _: &Arc<World>) -> Result<Box<dyn Subject>, NotBuilt> {
    Err(NotBuilt::Unknown("nothing is built yet".to_owned()))
}
