"""One web page that holds the model and runs it in the browser."""
