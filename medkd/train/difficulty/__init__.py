"""How hard and how real the phantoms are, by the figures of outsiders that never saw one."""
