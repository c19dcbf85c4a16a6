"""Calls that are wrong, one a line: mypy reports each, by the kind of error that stands behind it. Nobody runs this."""

import xcnn

xcnn.Conv2D(4, 3, padding="sme")  # arg-type
xcnn.Conv2D(4, 3, kernel_initializer="he_norml")  # arg-type
xcnn.Conv2D(4, 3, bias="tied")  # arg-type
xcnn.Conv2D("4", 3)  # arg-type
xcnn.MaxPool2D(2, padding="sme")  # arg-type
xcnn.UpSampling2D(2, "bilinar")  # arg-type
xcnn.metrics.F1("makro")  # arg-type
xcnn.EarlyStopping(mode="least")  # arg-type
xcnn.EarlyStopping(patience="3")  # arg-type
xcnn.correlate2d([[1]], [[1]], "all")  # arg-type
net = xcnn.Sequential(xcnn.Dense(2))
xcnn.Model(net, (3,), loss="cros_entropy")  # arg-type
xcnn.Model(net, (3,), optimizer="addam")  # arg-type
xcnn.Model(net, (3,), dtype="float23")  # arg-type
xcnn.Model(net, (3,), precision="float17")  # arg-type
model = xcnn.Model(net, (3,))
model.fit([[1.0]], [0], progress="alive")  # arg-type
model.fit([[1.0]], [0], epoch=3)  # call-arg
history: xcnn.History = model.fit([[1.0]], [0])
history["loss"] + 1  # operator
xcnn.Conv2DD(4, 3)  # attr-defined
xcnn.layers.Conv2DD(4, 3)  # attr-defined
xcnn.losses.cros_entropy()  # attr-defined
xcnn.optimizers.Addam()  # attr-defined
xcnn.schedules.Cosin(1e-3, 10)  # attr-defined
