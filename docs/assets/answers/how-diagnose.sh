translimit diagnose --demo 2>/dev/null
