"""What the tests of pure functions share."""

from hypothesis import settings

# Failing examples are not kept in the checkout, which may be read-only for the user who runs the tests. How long an
# example takes says more about what else the machine does.
settings.register_profile("vmharness", database=None, deadline=None)
settings.load_profile("vmharness")
