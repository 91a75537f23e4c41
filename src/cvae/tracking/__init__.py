"""MLflow: where its store is (`store`), train's live run (`live`), and the whole record of a pipeline (`record`).

Train logs live and the track stage makes the record whole, so that there is one run for one result, whether
its stages ran or came from DVC's cache.
"""
