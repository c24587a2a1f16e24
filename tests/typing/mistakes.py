"""Typical mistakes, one a line. The file is checked, never run: `tests/test_typing.py` counts those that are found."""

import numpy as np

import xmlp

x, y, labels = np.zeros((8, 2)), np.zeros((8, 1)), np.zeros(8, int)
network = xmlp.mlp([2, 3, 1])
trainer = xmlp.Trainer(network, loss="squared_error", optimizer="adam")
history = network.fit(x, y, epochs=1)
classifier = xmlp.MLPClassifier((8,))

xmlp.mlp([2, 3, 1], actvation="relu")  # mistake 1
xmlp.mlp([2, 3, 1], activation="rellu")  # mistake 2
xmlp.mlp([2, 3, 1], dtype="float16")  # mistake 3
xmlp.mlp([2, 3, 1], backend="numpyy")  # mistake 4
xmlp.mlp([2, 3, 1], normalization="batc")  # mistake 5
xmlp.mpl([2, 3, 1])  # mistake 6
xmlp.load(3)  # mistake 7
xmlp.layers.Dense("32")  # mistake 8
xmlp.layers.Dense(3, kernel_initializer="hee")  # mistake 9
xmlp.optimizers.Adam(lrr=1)  # mistake 10
xmlp.losses.SquaredError(reduction="average")  # mistake 11
xmlp.Trainer(network, loss="mse_", optimizer="adam")  # mistake 12
xmlp.Trainer(network, loss="squared_error", optimizer="adamm")  # mistake 13
network.fit(x, y, metrics=["acuracy"])  # mistake 14
network.fit(x, y, callbacks=[xmlp.callbacks.EarlyStoping()])  # mistake 15
trainer.fit(x, y, epoch=3)  # mistake 16
print(network.tetha)  # mistake 17
history["loss"].foo()  # mistake 18
text: str = network.predict(x)  # mistake 19
number: int = trainer.fit(x, y)  # mistake 20
classifier.fit(x)  # mistake 21
classifier.predct(x)  # mistake 22
