"""Write MLPerf Tiny's keyword spotter as a SavedModel with the signature of upstream's:
``python dscnn_savedmodel.py MODEL.onnx FOLDER``."""

import os
import sys

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
import onnx
import tensorflow as tf

nodes = onnx.load(sys.argv[1]).graph
weights = {t.name: onnx.numpy_helper.to_array(t) for t in nodes.initializer}


class Network(tf.Module):
    def __init__(self):
        super().__init__()
        convs = [node for node in nodes.node if node.op_type == "Conv"]
        self.convs = [
            (tf.Variable(weights[node.input[1]]), tf.Variable(weights[node.input[2]]))
            for node in convs
        ]
        (matmul,) = (node for node in nodes.node if node.op_type == "MatMul")
        (add,) = (node for node in nodes.node if node.op_type == "Add")
        self.dense = tf.Variable(weights[matmul.input[1]]), tf.Variable(weights[add.input[1]])

    @tf.function(input_signature=[tf.TensorSpec((None, 49, 10, 1), name="input_1")])
    def serve(self, input_1):
        x = input_1
        for number, (kernel, bias) in enumerate(self.convs):
            step = 2 if number == 0 else 1
            if number % 2:  # depthwise
                kernel = tf.transpose(kernel, (2, 3, 0, 1))
                x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")
            else:
                kernel = tf.transpose(kernel, (2, 3, 1, 0))
                x = tf.nn.conv2d(x, kernel, [1, step, step, 1], "SAME")
            x = tf.nn.relu(x + bias)
        x = tf.reshape(tf.nn.avg_pool2d(x, (25, 5), (25, 5), "VALID"), (-1, 64))
        return {"dense": tf.nn.softmax(x @ self.dense[0] + self.dense[1])}


network = Network()
tf.saved_model.save(network, sys.argv[2], signatures={"serving_default": network.serve})
