"""The rooms of the stream: order, mixture, windows and rows; `trainer.stream` is the front door."""
