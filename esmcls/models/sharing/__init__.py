"""Models for other programs and people: as folders of transformers and PEFT, as ONNX, with a card, on the hub."""
