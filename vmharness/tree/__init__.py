"""Where the root filesystem's tree comes from: one module a source, and the staging of what is grafted into it."""
