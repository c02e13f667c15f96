"""What a check found: a count a category, each of which must be 0, with examples that name the order or record."""

CATEGORIES = ("lost", "duplicated", "phantom", "wrong amount", "unbalanced", "stuck", "skipped offset", "dead letters")
SHOWN = 8


class Findings:
    def __init__(self):
        self.examined = {}
        self.found = {category: [] for category in CATEGORIES}

    def add(self, category, text):
        self.found[category].append(text)

    def looked_at(self, what, count):
        self.examined[what] = self.examined.get(what, 0) + count

    def counts(self):
        return {category: len(texts) for category, texts in self.found.items()}

    def categories(self):
        """Those that are not 0."""
        return {category for category, texts in self.found.items() if texts}

    def clean(self):
        return not self.categories()

    def table(self):
        lines = []
        for category, texts in self.found.items():
            lines.append(f"{category:<16}{len(texts):>8}")
            lines += [f"    {text}" for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                lines.append(f"    and {len(texts) - SHOWN} more")
        lines.append("examined: " + ", ".join(f"{count} {what}" for what, count in self.examined.items()))
        return "\n".join(lines)
