"""Plumbing for every room: errors, atomic file writes, output streams and progress bars.

Import nothing else from cvae here. Stages do not depend on this folder, so nothing here may decide a result's bytes.
"""
