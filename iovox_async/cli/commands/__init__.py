"""The commands of `iovox`, one module each; what they share is in the modules beside this folder."""
