"""Lists as callers ask for them: filter (AIP-160), order_by (AIP-132) and pages (AIP-158), as one SQL statement."""
