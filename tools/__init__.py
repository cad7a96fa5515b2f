"""What keeps this repository; no stage and no user needs it."""
