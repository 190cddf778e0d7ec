"""Files of other tools' formats, checked before their libraries see them: what they claim against what they hold."""
