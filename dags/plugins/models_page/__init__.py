"""The page Models in Airflow: the plugin, and the static files that it serves."""
