"""The live page: files for a browser, which speaks MQTT over websockets with the broker itself."""
