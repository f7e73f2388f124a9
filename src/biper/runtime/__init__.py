"""What a deployed model needs: NumPy and the native extension, never torch."""
