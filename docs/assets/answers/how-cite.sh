translimit run castin2025/bures-convexity --preset demo --out run >/dev/null 2>&1
translimit cite run | grep -A3 '^@'
