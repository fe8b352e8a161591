/** Told to `@jupyter/builder`, which minifies scripts, but puts style sheets into them as they are written, comments and all. */
module.exports = {
  module: {
    rules: [
      {
        test: /\.css$/,
        enforce: 'pre',
        loader: 'builtin:lightningcss-loader',
        options: { minify: true }
      }
    ]
  }
};
