import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  build: { target: 'es2022', assetsInlineLimit: 0, chunkSizeWarningLimit: 700 },
  server: {
    proxy: { '/api': { target: 'http://127.0.0.1:8060', ws: true }, '/gen': 'http://127.0.0.1:8060' },
  },
});
