"""What kinds of task share whose proteins have any number of classes each."""
