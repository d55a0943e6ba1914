"""A backbone's layers by OpenVINO on the CPU, as ``Backbone.openvino_graph`` builds them."""
