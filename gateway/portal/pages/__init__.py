"""One file per errand of a visitor. A handler takes the services and a visit, returns an answer, and sees no HTTP."""
